"""What is fetched from the Hugging Face Hub."""
