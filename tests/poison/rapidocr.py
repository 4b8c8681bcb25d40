raise ImportError("rapidocr must not be imported here")
