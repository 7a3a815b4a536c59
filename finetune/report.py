def write(folder, data_root):
    (folder / "report.html").write_text("")
