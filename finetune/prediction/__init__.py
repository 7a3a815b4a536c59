"""What a finished run answers to any pictures, and what is made of the answers."""
