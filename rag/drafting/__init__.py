"""Evidence -> draft: permitted findings, the consensus of similar reports, the model's wording."""
