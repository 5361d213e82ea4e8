"""Charts drawn on the server as inline SVG. Each is one pure function from numbers to safe markup."""
