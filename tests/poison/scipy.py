raise ImportError("scipy must not be imported here")
