"""The containers of videos that are read, by the endings of file names."""

import mimetypes
import pathlib

# FFmpeg's name of a container -> endings of its files. No playlists and no
# lists of files: they name other files, which the owner of a folder does not
# mean to show.
CONTAINERS = {
  'mov': '.mp4 .m4v .mov .qt .3gp .3g2 .f4v .mj2 .ismv',
  'matroska': '.mkv .mk3d',
  'webm': '.webm',
  'avi': '.avi .divx .amv',
  'mpegts': '.ts .mts .m2ts .m2t .tp .trp',
  'mpeg': '.mpg .mpeg .mpe .vob .m2p .mod .tod',
  'flv': '.flv',
  'asf': '.wmv .asf .dvr-ms',
  'ogg': '.ogv .ogm',
  'gif': '.gif',
  'rm': '.rm .rmvb',
  'mxf': '.mxf',
}
# Containers and bare streams that FFmpeg tells from anything else less surely,
# or that are rare: tried only for files with these endings.
RARE = {
  'mpegvideo': '.m1v .m2v .mpv',
  'h264': '.h264 .264 .avc',
  'hevc': '.h265 .265 .hevc',
  'vvc': '.h266 .266 .vvc',
  'obu': '.obu',
  'mjpeg': '.mjpeg .mjpg',
  'apng': '.apng',
  'dv': '.dv .dif',
  'gxf': '.gxf',
  'nut': '.nut',
  'nsv': '.nsv',
  'nuv': '.nuv',
  'ivf': '.ivf',
  'ivr': '.ivr',
  'wtv': '.wtv',
  'ty': '.ty',
  'pva': '.pva',
  'dhav': '.dav',
  'kux': '.kux',
  'yuv4mpegpipe': '.y4m',
  'swf': '.swf',
  'bink': '.bik .bk2',
  'smk': '.smk',
  'flic': '.fli .flc',
  'roq': '.roq',
  'vivo': '.viv',
  'moflex': '.moflex',
  'usm': '.usm',
  'mlv': '.mlv',
  'cine': '.cine',
}
_RARE = {e: name for name, few in RARE.items() for e in few.split()}
ENDINGS = frozenset(
  [*(e for few in CONTAINERS.values() for e in few.split()), *_RARE]
)
# Endings of source code, too. A transport stream has packets of 188 bytes that
# begin with one value; before each, cameras write four bytes.
_ALSO_CODE = ('.ts', '.mts')
_SYNC, _PACKET, _CAMERA = 0x47, 188, 4
# Media that Python's table of types does not name: playlists, previews and raw
# files of cameras, pictures of discs, downloads that are not complete.
_MORE_MEDIA = (
  '.m3u8 .m3u .pls .mpd .xspf .cue .lrv .thm .insv .braw .r3d .crm .iso .ifo '
  '.bup .mks .mka .flac .opus .wma .ape .heic .heif .avif .webp .jxl .dng .cr2 '
  '.cr3 .nef .arw .part .crdownload '
)


def formats_of(path: str) -> str:
  """Returns the containers that FFmpeg may take a file for, by its names with
  commas between them."""
  rare = _RARE.get(pathlib.PurePath(path).suffix.lower())
  return ','.join([*CONTAINERS, *([rare] if rare else [])])


def is_video(path: pathlib.Path) -> bool:
  """Returns whether a file's name, and for source code's endings its first
  bytes, are those of a video.

  Raises:
    OSError: If such bytes cannot be read.
  """
  ending = path.suffix.lower()
  if ending not in ENDINGS:
    return False
  return ending not in _ALSO_CODE or _is_stream(path)


def looks_like_media(name: str) -> bool:
  """Returns whether a name is that of a picture, sound, video or playlist."""
  ending = pathlib.PurePath(name).suffix.lower()
  if ending and f'{ending} ' in _MORE_MEDIA:
    return True
  kind = mimetypes.guess_type(name)[0] or ''
  return kind.startswith(('video/', 'audio/', 'image/'))


def _is_stream(path: pathlib.Path) -> bool:
  """Returns whether a file can be a transport stream: an empty one can."""
  with path.open('rb') as file:
    head = file.read(2 * (_PACKET + _CAMERA))
  return not head or any(
    _SYNC in head[before : before + 1]
    and head[before + size : before + size + 1] in (b'', bytes([_SYNC]))
    for before, size in ((0, _PACKET), (_CAMERA, _PACKET + _CAMERA))
  )
