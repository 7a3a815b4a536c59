"""What is pushed to the Hub, and the model card."""
