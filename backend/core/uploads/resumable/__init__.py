"""Resumable uploads: the records, locks and steps that the tus protocol needs."""
