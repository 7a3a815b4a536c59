"""`report.html`: how good the model is, whether the numbers can be trusted, where it fails, what to
do next."""
