"""The forms of the pages, one file a noun. They read and check input; services write."""
