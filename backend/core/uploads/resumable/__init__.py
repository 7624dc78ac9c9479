"""Resumable uploads: the records, locks and steps behind the tus protocol."""
