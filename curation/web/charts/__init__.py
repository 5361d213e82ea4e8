"""Charts drawn on the server as inline SVG: each one pure function from numbers to safe markup."""
