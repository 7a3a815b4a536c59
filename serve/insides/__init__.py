"""What the service borrows from the insides of other projects, one file for each project.

Nothing outside this room touches what another project does not document. A new version of one of
them can take it away without notice; tests/serve/test_insides.py names the version that did.
"""
