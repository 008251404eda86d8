"""The metadata of the package; pyproject.toml configures tools."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = runpy.run_path(str(ROOT / 'dreamprvr_jax/version.py'))['__version__']

# Only two global packages are installed. The configs go into dreamprvr_jax,
# where dreamprvr_jax/cli/config_files.py finds them.
PACKAGES = find_packages(
  include=[
    'dreamprvr_jax',
    'dreamprvr_jax.*',
    'data_pipeline',
    'data_pipeline.*',
  ]
)
CONFIGS = {
  'dreamprvr_jax.configs': 'configs',
  'dreamprvr_jax.configs.models': 'configs/models',
}

TENSORFLOW = [
  'tensorflow-cpu>=2.20; platform_system == "Linux" and '
  'platform_machine == "x86_64"',
  'tensorflow>=2.20; platform_system != "Linux" or '
  'platform_machine != "x86_64"',
]
VIDEOS = ['av>=14.2']
SERVE = [
  # The first version that works with starlette 1.
  'fastapi>=0.133',
  # Malformed chunks are refused (CVE-2025-43859).
  'h11>=0.16',
  'prometheus_client>=0.20',
  # Ranges are read in bounded time (CVE-2025-62727), a Host header cannot
  # change the requested path (CVE-2026-48710), paths are checked
  # (CVE-2026-54282) and forms have limits (CVE-2026-54283).
  'starlette>=1.3.1',
  # The first version that tells a response that its client disconnected.
  'uvicorn>=0.32.1',
]
HUB = [
  'huggingface_hub>=0.26',
  'pillow>=10.3',
  # CVE-2026-1260: invalid memory access through a model file.
  'sentencepiece>=0.2.1',
  'tokenizers>=0.20',
]
BATCH = ['apache-beam>=2.69']
LISTS = ['faiss-cpu>=1.11']
# The engine in the process is young and changes between versions.
DATABASE = ['qdrant-client>=1.20', 'qdrant-edge-py>=0.9,<0.10']
NOTEBOOK = ['ipykernel>=6.29', 'nbclient>=0.10', 'nbformat>=5.10']
TESTS = [
  'pytest>=8.0',
  'pytest-xdist>=3.8',
  'hypothesis>=6.100',
  'httpx>=0.27',
  *VIDEOS,
  *SERVE,
  *HUB,
  *LISTS,
  *DATABASE,
  *NOTEBOOK,
]

setup(
  name='dreamprvr_jax',
  version=VERSION,
  description='Partially relevant video retrieval in JAX: DreamPRVR',
  license='Apache-2.0',
  long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  python_requires='>=3.11',
  packages=[*PACKAGES, *CONFIGS],
  package_dir=CONFIGS,
  entry_points={'console_scripts': ['dreamprvr = dreamprvr_jax.cli.main:run']},
  package_data={
    'dreamprvr_jax': ['py.typed'],
    'dreamprvr_jax.archive.serving': ['page/*'],
    'data_pipeline': ['py.typed'],
  },
  install_requires=[
    'absl-py>=2.1',
    'etils[epath]>=1.10',
    # Stores the traced query encoder (jax.export).
    'flatbuffers>=24.3.25',
    'flax>=0.10.7',
    'google-crc32c>=1.6',
    'h5py>=3.11',
    'jax>=0.6.2',
    'jaxtyping>=0.2.36',
    'matplotlib>=3.10',
    'ml_collections>=1.0',
    'numpy>=1.26',
    'optax>=0.2.4',
    'orbax-checkpoint>=0.11.19',
    # CVE-2025-4565, CVE-2026-0994: unbounded recursion.
    'protobuf>=6.33.5',
    'safetensors>=0.4.3',
    'scipy>=1.11.1',
    'tensorboardX>=2.6.2.2',
    'tensorflow-datasets>=4.9.9',
    # CVE-2024-34062: arguments of its command line were executed.
    'tqdm>=4.66.3',
  ],
  extras_require={
    # Streaming (config.data.pipeline='streaming') and tfds.load.
    'tf': TENSORFLOW,
    # Decodes videos, for `dreamprvr extract`.
    'videos': VIDEOS,
    # The server, for `dreamprvr serve`; thumbnails need `videos`, too.
    'serve': SERVE,
    # CLIP and SigLIP, for --encoder=clip, siglip and siglip2; models by name.
    'hub': HUB,
    # A first pass by inverted lists, `dreamprvr index --recall`.
    'lists': LISTS,
    # Work on many machines, for --engine=beam.
    'batch': BATCH,
    # Runs notebooks/ without Jupyter.
    'notebook': NOTEBOOK,
    # Export of an index to a vector database, `dreamprvr export --index`.
    'database': DATABASE,
    # Other programs that benchmarks/search.py compares.
    'bench': [
      'faiss-cpu>=1.15',
      'lancedb>=0.36',
      'pyarrow>=16',
      'torch>=2.2',
      'transformers>=4.49',
    ],
    # The TPU compiler, for benchmarks/ahead_of_time.py; it works without a TPU.
    'tpu-aot': ['jax[tpu]>=0.10.2'],
    # The site of docs/: mkdocs build.
    'docs': [
      'mkdocs>=1.6',
      'mkdocs-material>=9.6',
      'mkdocstrings[python]>=1.0',
      'ruff>=0.9',
    ],
    'test': [*TENSORFLOW, *TESTS],
    'dev': [*TENSORFLOW, *TESTS, 'ruff>=0.9', 'basedpyright>=1.28'],
  },
)
