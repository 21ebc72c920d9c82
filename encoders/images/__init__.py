"""Parts of reading an image: records, header values, exposure; PNG and JPEG."""
