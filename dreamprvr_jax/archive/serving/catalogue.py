"""The paths that tell what the archive has."""

from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Query

from dreamprvr_jax.archive.serving import schema
from dreamprvr_jax.archive.serving.contents import Contents, seekable
from dreamprvr_jax.archive.serving.service import Service

_NOTES = {
  'registers': 'the videos whose register tokens are nearest',
  'clips': 'this index stores no registers: the videos whose mean clip tokens '
  'are nearest',
}
# Videos of one answer, at most.
_MOST = 200


def file_of(contents: Contents, video: str) -> schema.File | None:
  """Returns the addresses of a video's file; None if it has none."""
  found = contents.files.get(video)
  if found is None:
    return None
  name = quote(video, safe='')
  return schema.File(
    url=f'/videos/{name}',
    media_type=found.media_type,
    thumbnail=f'/thumbnails/{name}',
    strip=f'/strips/{name}',
    converted=f'/converted/{name}',
    playing=f'/api/videos/{name}/playing',
    clip=f'/clips/{name}',
  )


def facts_of(contents: Contents, video: str) -> dict[str, Any]:
  """Returns the fields of `schema.Entry` of a video."""
  about = contents.about(video)
  return {
    'video': video,
    'title': about.title,
    'folder': about.folder,
    'date': about.date,
    'duration': about.seconds,
    'file': file_of(contents, video),
  }


def known(contents: Contents, video: str) -> str:
  """Returns the id of a video of the index; raises HTTPException 404 if there
  is none."""
  found = contents.named(video)
  if found is None:
    raise HTTPException(404, f'the index has no video {video!r}')
  return found


def add_to(app: FastAPI, service: Service) -> None:
  """Adds the paths to an app."""

  @app.get('/api/videos', responses={400: schema.ERRORS[400]})
  def listing(
    folder: str = '',
    name: Annotated[str, Query(max_length=200)] = '',
    order: Literal['name', 'date', 'length'] = 'name',
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 48,
  ) -> schema.Listing:
    """The videos of the archive, or of a folder and those below it."""
    contents = service.contents
    wanted = seekable(name)

    def fits(video: str) -> bool:
      about = contents.about(video)
      inside = not folder or f'{about.folder}/'.startswith(f'{folder}/')
      return inside and wanted in about.sought

    found = [video for video in contents.ordered(order) if fits(video)]
    return schema.Listing(
      total=len(found),
      folders=contents.folders,
      videos=[
        schema.Entry(**facts_of(contents, video))
        for video in found[offset : offset + limit]
      ],
    )

  # Before the path below, which would take it for a part of the id.
  @app.get('/api/videos/{video:path}/similar', responses=schema.ERRORS)
  def similar(
    video: str, k: Annotated[int, Query(ge=1, le=service.limits.hits)] = 10
  ) -> schema.SimilarAnswer:
    """The videos that are most like one, whatever the query."""
    contents = service.contents
    video = known(contents, video)
    neighbours = contents.neighbours
    hits = [
      schema.Similar(
        rank=rank, similarity=likeness, **facts_of(contents, other)
      )
      for rank, (other, likeness) in enumerate(neighbours.nearest(video, k), 1)
    ]
    note = _NOTES[neighbours.kind]
    return schema.SimilarAnswer(
      video=video, by=neighbours.kind, note=note, hits=hits
    )


def add_facts_to(app: FastAPI, service: Service) -> None:
  """Adds the path of one video, which takes all that is left of the paths
  below /api/videos."""

  @app.get('/api/videos/{video:path}', responses=schema.ERRORS)
  def facts(video: str) -> schema.Video:
    """What the index stores of a video."""
    contents = service.contents
    video = known(contents, video)
    rows, manifest = contents.rows(video), contents.index.manifest
    mask = contents.index.store.read('frame_mask', rows.start, rows.stop)
    return schema.Video(
      **facts_of(contents, video),
      rows=len(rows),
      clips=manifest.clips * len(rows),
      frames=int(mask.sum()),
      registers=manifest.registers,
      width=manifest.width,
      tokens=manifest.tokens,
    )
