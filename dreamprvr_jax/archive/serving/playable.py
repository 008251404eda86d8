"""Whether browsers play a file as it is, and if not, how it is converted."""

import dataclasses

from dreamprvr_jax.archive.serving.files import VideoFile
from dreamprvr_jax.archive.videos.files import VideoError, opened, shown
from dreamprvr_jax.archive.videos.presentation import Presentation
from dreamprvr_jax.errors import UserError

# Seconds of a piece of a file that is encoded again.
PIECE_SECONDS = 60.0
# Codec, and bits of a colour -> its name in a media type. Levels are common
# ones: a browser says whether it knows the codec at all.
_PICTURES = {
  ('h264', 8): 'avc1.640028',
  ('hevc', 8): 'hvc1.1.6.L120.90',
  ('hevc', 10): 'hvc1.2.4.L120.90',
  ('av1', 8): 'av01.0.08M.08',
  ('av1', 10): 'av01.0.08M.10',
  ('vp9', 8): 'vp09.00.40.08',
  ('vp9', 10): 'vp09.02.40.10',
  ('vp8', 8): 'vp8',
}
_SOUND = {
  'aac': 'mp4a.40.2',
  'mp3': 'mp3',
  'opus': 'opus',
  'vorbis': 'vorbis',
  'flac': 'flac',
}
# Colours of which browsers show all.
_COLOURS = {
  'yuv420p': 8,
  'yuvj420p': 8,
  'yuv420p10le': 10,
}
# Containers that browsers know -> what may be in them.
_MP4 = {'h264', 'hevc', 'av1', 'vp9', 'aac', 'mp3', 'opus', 'flac'}
_WEBM = {'vp8', 'vp9', 'av1', 'opus', 'vorbis'}
# What every browser plays in an MP4 file.
_SURE = {'h264', 'aac', 'mp3'}
# Kinds of pictures that a conversion copies; see `save_clip`.
_COPIED = ('avc1', 'av01', 'vp09')


@dataclasses.dataclass(frozen=True)
class Playing:
  """How a file can be played.

  Attributes:
    plays: 'yes' if every browser plays it, 'no' if none does; 'maybe' if it
      depends on the browser, which knows by `type`.
    type: Its media type with the codecs; '' if there is none.
    start: Time of the file's own clock at second 0.
    duration: Seconds that it states; 0 if it does not.
    copied: Whether it can be converted whole, by copying its pictures; else it
      is converted in pieces.
  """

  plays: str
  type: str
  start: float
  duration: float
  copied: bool


def playing_of(file: VideoFile, most_bytes: float) -> Playing:
  """Returns how a file can be played.

  Args:
    file: The file.
    most_bytes: Bytes of a file that is copied whole.

  Raises:
    UserError: If PyAV is missing, or the file is no video.
  """
  path = str(file.path)
  try:
    with opened(path) as (container, stream):
      film = Presentation(path, container, stream)
      start, duration = film.start(), film.stated
      names = set(container.format.name.split(','))
      decoder = stream.codec_context
      picture = decoder.codec.canonical_name
      bits = _COLOURS.get(decoder.pix_fmt or '', 0)
      sounds = [
        x.codec_context.codec.canonical_name if x.codec_context else 'unknown'
        for x in container.streams.audio[:1]
      ]
  except VideoError as error:
    raise UserError(f'{shown(file.path.name)} {error.reason}') from error
  plays, kind = _judged(names, file.path.suffix.lower(), picture, bits, sounds)
  known = _PICTURES.get((picture, bits), '')
  is_copied = (
    known.startswith(_COPIED)
    and bool(names & {'mp4', 'matroska'})
    and file.path.stat().st_size <= most_bytes
  )
  return Playing(plays, kind, start, duration, is_copied)


def _judged(
  names: set[str], ending: str, picture: str, bits: int, sounds: list[str]
) -> tuple[str, str]:
  """Returns `plays` and `type` of a file.

  Args:
    names: FFmpeg's names of the container.
    ending: The ending of the file's name.
    picture: Codec of the pictures.
    bits: Bits of their colours, 0 if browsers do not show them.
    sounds: Codec of the sound, if there is one.
  """
  codecs = [_PICTURES.get((picture, bits)), *map(_SOUND.get, sounds)]
  inside = {picture, *sounds}
  if None in codecs:
    return 'no', ''
  told = f'; codecs="{", ".join(filter(None, codecs))}"'
  if 'mp4' in names:
    if not inside <= _MP4:
      return 'no', ''
    return 'yes' if inside <= _SURE else 'maybe', f'video/mp4{told}'
  if 'matroska' in names:
    # FFmpeg has one name for both; some browsers read only WebM.
    if inside <= _WEBM and ending == '.webm':
      return 'maybe', f'video/webm{told}'
    return 'maybe', f'video/x-matroska{told}'
  return 'no', ''
