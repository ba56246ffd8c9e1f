"""The sample program: texts and cameras in, folders of views out."""
