"""What the export borrows from the insides of other projects, one file for each project.

Nothing outside this room leans on what another project does not document. A new version of one of
them can take it away without notice; tests/export/test_insides.py names the version that did.
"""
