"""A draft or a signed report as text, Markdown, JSON, PDF and DICOM SR."""
