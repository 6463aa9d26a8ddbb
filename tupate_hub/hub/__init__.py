"""Hub: repositories of the Hugging Face Hub, read and written. The only place with huggingface_hub."""
