"""The encoder and the retriever of an index of folders."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from dreamprvr_jax import checkpoints
from dreamprvr_jax.archive import encoders
from dreamprvr_jax.archive.folder.settings import Settings
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.cli.encoder_identity import differences
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever

ENCODER = 'siglip2'


class Tools:
  """Encoder and retriever, each loaded when it is first needed."""

  def __init__(
    self,
    config: ConfigDict,
    manifest: Manifest | None,
    *,
    encoder: str = '',
    dtype: str = 'float32',
    batch: int = 0,
    checkpoint: str = '',
  ):
    """Args:
    config: See `folder_config.of_folders`.
    manifest: The manifest of an index that exists.
    encoder: The argument of --encoder, for a new index.
    dtype: The argument of --dtype, for a new index.
    batch: The argument of --batch.
    checkpoint: The argument of --checkpoint.
    """
    self._config, self._manifest = config, manifest
    self._name, self._dtype, self._batch = encoder, dtype, batch
    if manifest is not None and not manifest.retriever:
      checkpoint = checkpoint or manifest.checkpoint
    self._checkpoint = checkpoint
    self._encoder: encoders.Encoder | None = None
    self._retriever: Retriever | None = None

  @property
  def encoder(self) -> encoders.Encoder:
    """The encoder of pictures.

    Raises:
      UserError: If it cannot be loaded, or the checkpoint names none.
    """
    if self._encoder is None:
      self._encoder = self._loaded_encoder()
    return self._encoder

  @property
  def retriever(self) -> Retriever:
    """What makes rows of the features of pictures.

    Raises:
      UserError: If a checkpoint was trained on features of another encoder.
    """
    if self._retriever is None:
      self._retriever = self._loaded_retriever()
    return self._retriever

  def _loaded_encoder(self) -> encoders.Encoder:
    if self._manifest is not None:
      identity = self._manifest.archive['encoder']
      return encoders.from_identity(identity, batch=self._batch)
    if self._name or not self._checkpoint:
      name = self._name or ENCODER
      return encoders.build(name, dtype=self._dtype, batch=self._batch)
    return encoders.from_identity(self._identity(), batch=self._batch)

  def _loaded_retriever(self) -> Retriever:
    if self._checkpoint:
      self._check_encoder(self._identity())
      retriever = Retriever.load(self._checkpoint)
      retriever.require_tokens_alone()
      return retriever
    if self._manifest is not None:
      return Retriever.from_facts(self._manifest.retriever)
    model = self._config.model.to_dict()
    return Retriever.free(model.pop('name'), self.encoder.identity, **model)

  def settings(self) -> Settings:
    """Returns the settings of a new index; loads encoder and retriever.

    Raises:
      UserError: If one cannot be loaded, or a setting is out of its range.
    """
    archive, identity = self._config.archive, self.encoder.identity
    found = Settings(
      (),
      identity,
      self._name or str(identity['name']),
      archive.fps,
      archive.part_seconds,
      archive.overlap_seconds,
    )
    # What cannot be loaded is said before anything is written.
    _ = self.retriever
    return found

  def _identity(self) -> Mapping[str, Any]:
    """Returns the identity of the encoder that a checkpoint was trained on."""
    identity = checkpoints.read_config(self._checkpoint).get('encoder')
    if not identity:
      raise UserError(
        f'{self._checkpoint} does not say which encoder made the features that '
        'it was trained on, so it cannot index videos; train one on what '
        '--mode=extract writes, or leave --checkpoint out'
      )
    return identity

  def _check_encoder(self, wanted: Mapping[str, Any]) -> None:
    """Raises UserError if a checkpoint needs another encoder."""
    differ = differences(wanted, self.encoder.identity)
    if differ:
      raise UserError(
        f'{self._checkpoint} was trained on features of another encoder '
        f'({"; ".join(differ)}); leave --encoder out, so that its own is used'
      )


def check_same(
  manifest: Manifest,
  *,
  encoder: str = '',
  dtype: str = '',
  tokens: str = '',
  checkpoint: str = '',
) -> None:
  """Refuses flags that differ from what an index was made with.

  Args:
    manifest: The manifest of the index.
    encoder: The argument of --encoder; '' if not given.
    dtype: That of --dtype; the default counts as not given.
    tokens: That of --tokens, likewise.
    checkpoint: That of --checkpoint, which must have the same weights.

  Raises:
    UserError: If one differs; it names both.
  """
  settings = Settings.of(manifest.archive)
  differ = []
  if encoder and not settings.names_encoder(encoder):
    differ.append(f'--encoder={encoder}, not {settings.encoder_name}')
  made = manifest.archive['encoder'].get('dtype', 'float32')
  if dtype not in ('', 'float32', made):
    differ.append(f'--dtype={dtype}, not {made}')
  if tokens not in ('', 'float16', manifest.tokens):
    differ.append(f'--tokens={tokens}, not {manifest.tokens}')
  if checkpoint and manifest.retriever:
    name = manifest.retriever['name']
    differ.append(f'--checkpoint={checkpoint}, not the retriever {name}')
  if differ:
    raise UserError(
      f'the index was made with other settings ({"; ".join(differ)}): leave '
      'the flag out, or give another --index'
    )
