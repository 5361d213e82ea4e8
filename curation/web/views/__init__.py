"""The pages, one file a noun: plain functions that read by queries and write by services."""
