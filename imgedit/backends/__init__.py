"""Models and methods: one file each; the only room that names heavy packages."""
