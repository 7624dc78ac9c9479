"""Operations on everything below a prefix of a bucket."""

from backend.core.store.interface import Store


async def keys_below(store: Store, prefix: str) -> list[str]:
    return [info.key async for info in store.list_all(prefix)]


async def delete_below(store: Store, prefix: str, keep: str | None = None) -> None:
    """Delete the objects below `prefix`, except those below `keep`."""
    doomed = await keys_below(store, prefix)
    await store.delete_many([key for key in doomed if keep is None or not key.startswith(keep)])


async def abort_uploads_below(store: Store, prefix: str) -> None:
    """Abort the open multipart uploads below `prefix`."""
    async for upload in store.list_uploads(prefix):
        await store.abort_upload(upload.key, upload.upload_id)


async def delete_outputs_below(store: Store, prefix: str, keep: str | None = None) -> None:
    """Delete objects and open multipart uploads below `prefix`, except objects below `keep`."""
    await abort_uploads_below(store, prefix)
    await delete_below(store, prefix, keep)
