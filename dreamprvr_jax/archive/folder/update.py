"""Making an index agree with the folders that it follows."""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from dreamprvr_jax import folders
from dreamprvr_jax.archive.encoders import Encoder
from dreamprvr_jax.archive.extraction.stretches import Encoded, encode_files
from dreamprvr_jax.archive.folder.comparison import Plan, Task
from dreamprvr_jax.archive.folder.memory import Memory, Unreadable
from dreamprvr_jax.archive.folder.settings import Settings
from dreamprvr_jax.archive.folder.sources import Source, content_hash
from dreamprvr_jax.archive.index import removal, writer
from dreamprvr_jax.archive.index.manifest import MANIFEST, Manifest
from dreamprvr_jax.archive.index.segments import locked
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.jobs.rows import rows_of
from dreamprvr_jax.archive.videos.frames import Limits
from dreamprvr_jax.trained.retriever import Retriever
