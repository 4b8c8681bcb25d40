raise ImportError("PIL must not be imported here")
