"""Every exception of the project can be passed from another process."""

import importlib
import inspect
import math
import pathlib
import pickle
import pkgutil

import pytest

_PACKAGES = ('dreamprvr_jax', 'data_pipeline')
# Values for the parameters of their constructors, by annotation.
_SAMPLES = {
  'Mapping': {'a name': math.nan},
  'dict': {'a name': math.nan},
  'Sequence': ('one', 'two'),
  'list': ['one', 'two'],
  'tuple': ('one', 'two'),
  'str': 'a sentence',
  'int': 7,
  'float': 0.5,
  'bool': True,
  'Path': pathlib.PurePosixPath('/some/file'),
  'Exception': ValueError('why'),
}


def modules(package):
  """Yields a package and all modules in it, imported."""
  root = importlib.import_module(package)
  yield root
  for found in pkgutil.walk_packages(root.__path__, f'{package}.'):
    yield importlib.import_module(found.name)


def errors_of(package):
  """Returns the exception classes that a package defines, also nested ones."""
  found = {}
  for module in modules(package):
    places = [module, *(c for _, c in inspect.getmembers(module, is_own))]
    for place in places:
      for _, kind in inspect.getmembers(place, is_own):
        if issubclass(kind, BaseException):
          found[f'{kind.__module__}.{kind.__qualname__}'] = kind
  return list(found.values())


def is_own(thing):
  return inspect.isclass(thing) and (
    str(thing.__module__).partition('.')[0] in _PACKAGES
  )


def sample(parameter):
  """Returns a value for a parameter of a constructor."""
  kind = parameter.annotation
  name = kind if isinstance(kind, str) else getattr(kind, '__name__', str(kind))
  for part, value in _SAMPLES.items():
    if part in name:
      return value
  return f'the {parameter.name}'


def make(kind):
  """Returns an exception, made by keyword if it has its own parameters."""
  maker = next(base for base in kind.__mro__ if '__init__' in vars(base))
  if maker.__module__ == 'builtins':
    return kind('a sentence')
  signature = inspect.signature(kind)
  positional, named = [], {}
  for parameter in signature.parameters.values():
    if parameter.kind is parameter.VAR_POSITIONAL:
      positional.append('a sentence')
    elif parameter.kind is parameter.KEYWORD_ONLY:
      named[parameter.name] = sample(parameter)
    elif parameter.kind is not parameter.VAR_KEYWORD:
      positional.append(sample(parameter))
  return kind(*positional, **named)


@pytest.mark.parametrize('package', _PACKAGES)
def test_exceptions_pickle(package):
  kinds = errors_of(package)
  for kind in kinds:
    error = make(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert repr(again.args) == repr(error.args), kind
    assert str(again) == str(error), kind
    assert repr(vars(again)) == repr(vars(error)), kind


def test_they_are_found():
  names = {
    kind.__name__ for package in _PACKAGES for kind in errors_of(package)
  }
  assert {'UserError', 'BadItemError', 'CheckpointError', 'TextError'} <= names
