"""Catalogs of raw runs analysed anew, on processes of this computer or a Dask cluster."""

from bluesky_xpdml.callbacks.reprocess.work import Choice, Summary, reprocess

__all__ = ["Choice", "Summary", "reprocess"]
