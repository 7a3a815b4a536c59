"""A served model as a folder that runs elsewhere: a Hugging Face Space, or an image of the same."""
