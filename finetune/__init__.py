"""Pictures -> run folder: `python -m finetune --data PATH --base NAME`."""
