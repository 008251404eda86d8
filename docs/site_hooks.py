"""Links of the docs to files that the site does not have.

In a checkout `[configs/rerank.py](../configs/rerank.py)` leads to the file. The
site does not have that file, so it shows the name without the link. A link to
a file that does not exist is an error.
"""

import pathlib
import posixpath
import re
from typing import Any

_ROOT = pathlib.Path(__file__).parents[1]
_LINK = re.compile(r'\[([^\]]+)\]\((\.\./[^)#]+)(?:#[^)]*)?\)')


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
  """Returns the page with links to files of the checkout as plain names."""
  del kwargs
  folder = posixpath.dirname(page.file.src_uri)
  return plain_names(markdown, _ROOT / 'docs' / folder)


def plain_names(markdown: str, folder: pathlib.Path) -> str:
  """Returns Markdown whose links out of the docs are plain names.

  Args:
    markdown: The text of a page.
    folder: The folder of the page.

  Raises:
    FileNotFoundError: If a link leads to no file.
  """

  def replaced(link: re.Match[str]) -> str:
    target = folder / link[2]
    if not target.exists():
      raise FileNotFoundError(f'{link[0]}: {target} does not exist')
    return link[1] if link[1].startswith('`') else f'`{link[1]}`'

  return _LINK.sub(replaced, markdown)
