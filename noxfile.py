"""The test suite with the oldest and the newest libraries.

`pipx run nox` (or `pip install nox uv`, then `nox`) builds an environment for
each session and runs the whole suite in it:

  nox -s oldest            Python 3.11, the lower bounds that setup.py declares
  nox -s newest            Python 3.11, 3.12 and 3.13, the newest versions
  nox -s newest-3.13 -- tests/docs        a part of the suite

nox skips a Python that is not installed; with
`nox --error-on-missing-interpreters` it fails.
"""

import nox

PYTHONS = ('3.11', '3.12', '3.13')

nox.options.default_venv_backend = 'uv'
nox.options.reuse_existing_virtualenvs = False


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
  """Runs the suite with each direct dependency at its lower bound."""
  session.install('--resolution', 'lowest-direct', '-e', '.[test]')
  _test(session)


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
  """Runs the suite with the newest libraries."""
  session.install('--upgrade', '-e', '.[test]')
  _test(session)


def _test(session: nox.Session) -> None:
  session.run('uv', 'pip', 'list', external=True)
  session.run('python', '-m', 'pytest', *session.posargs)
