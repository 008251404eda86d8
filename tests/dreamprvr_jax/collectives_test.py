"""The communication between devices, read from the compiled programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.diffusion.denoiser import RegisterEstimator
from dreamprvr_jax.evaluation.encoder import compile_encoding
from dreamprvr_jax.evaluation.ranking import (
  compile_ranking,
  compile_text_ranking,
)
from dreamprvr_jax.models.template import blank_batch, variable_shapes
from dreamprvr_jax.train.bert_adam import bert_adam
from dreamprvr_jax.train.step import (
  compile_steps,
  compile_update,
  create_state,
)
from dreamprvr_jax.types import Batch, VideoEncoding
from tests.helpers import models
from tests.helpers.collectives import Collective, collectives
from tests.helpers.retrieval import Passing, features, task_of

# Numbers of devices, and of those that share the corpus.
MESHES = [(8, 1), (8, 2), (8, 8)]
VIDEOS, BLOCKS, QUERIES, WIDTH = 80, 3, 16, 12


def shapes(**arrays):
  """Returns `jax.ShapeDtypeStruct`s; a dtype comes before the sizes."""
  return {
    name: jax.ShapeDtypeStruct(sizes, dtype)
    for name, (dtype, *sizes) in arrays.items()
  }


def test_what_the_helper_reads():
  class Program:
    def as_text(self):
      return """
        %a = f32[3,4]{1,0} all-reduce(f32[3,4]{1,0} %all-gather.2), to_apply=%s
        ROOT %b = (s32[], pred[5]{0}) all-gather-start(%x, %y), dimensions={0}
        %c = (f32[2,2]{1,0}, f32[2,2]{1,0}) all-to-all(%x, %y)
        %d = f32[9]{0} all-gather-done(%b)
        %e = f32[9]{0} all-gather(%x), replica_groups={{0},{1}}, dimensions={0}
        %f = f32[9]{0} all-gather(%x), replica_groups=[2,1]<=[2], dimensions={0}
      """

  assert collectives(Program()) == [
    Collective('all-reduce', ('f32',), ((3, 4),)),
    Collective('all-to-all', ('f32', 'f32'), ((2, 2), (2, 2))),
    Collective('all-gather', ('s32', 'pred'), ((), (5,))),
  ]
  assert [one.size for one in collectives(Program())] == [12, 8, 5]


def ranking_arguments():
  f32, i32 = np.float32, np.int32
  videos = shapes(
    clip_tokens=(f32, VIDEOS, 5, WIDTH),
    frame_tokens=(f32, VIDEOS, 7, WIDTH),
    frame_mask=(bool, VIDEOS, 7),
  )
  rest = shapes(
    items=(i32, VIDEOS),
    queries=(f32, BLOCKS, QUERIES, WIDTH),
    start=(i32,),
    target=(i32, BLOCKS, QUERIES),
    own=(f32, BLOCKS, 3, QUERIES),
    counted=(bool, BLOCKS, QUERIES),
  )
  return {}, VideoEncoding(**videos), *rest.values()


@pytest.mark.parametrize('devices', MESHES)
def test_ranking_sends_only_own_scores_and_counts(devices):
  mesh = meshes.make_mesh(*devices)
  program = compile_ranking(Passing(), mesh, block=5)
  found = collectives(program.lower(*ranking_arguments()).compile())
  share = QUERIES // mesh.shape['data']
  # Devices that share the corpus exchange one block of queries; at the end all
  # devices get all blocks.
  allowed = {'all-reduce': (3, share), 'all-gather': (BLOCKS, 3, QUERIES)}
  assert found
  for one in found:
    assert one.shapes == (allowed[one.kind],)
    assert one.size < QUERIES * VIDEOS


@pytest.mark.parametrize('devices', MESHES)
def test_kept_scores_are_all_that_is_sent_besides(devices):
  mesh = meshes.make_mesh(*devices)
  program = compile_ranking(Passing(), mesh, block=5, keep_scores=True)
  found = collectives(program.lower(*ranking_arguments()).compile())
  assert found[0].size <= BLOCKS * QUERIES * VIDEOS


@pytest.mark.parametrize('devices', MESHES)
def test_ranking_of_text_sends_no_scores(devices):
  mesh = meshes.make_mesh(*devices)
  rows = BLOCKS * QUERIES
  arguments = shapes(
    queries=(np.float32, BLOCKS, QUERIES, WIDTH),
    start=(np.int32,),
    rows=(np.int32, BLOCKS, QUERIES),
    row_groups=(np.int32, BLOCKS, QUERIES),
    columns=(np.float32, rows, WIDTH),
    items=(np.int32, rows),
    groups=(np.int32, rows),
  )
  program = compile_text_ranking(mesh)
  found = collectives(program.lower(*arguments.values()).compile())
  assert found
  assert found[0].size <= rows


@pytest.mark.parametrize('devices', MESHES)
def test_encoded_videos_stay_with_those_who_score_them(devices):
  mesh = meshes.make_mesh(*devices)
  data = features(VIDEOS, 5, width=WIDTH)
  task = task_of(data, mesh=mesh)
  stored = shapes(
    clip_tokens=(np.float32, VIDEOS, 3, WIDTH),
    frame_tokens=(np.float32, VIDEOS, 5, WIDTH),
    frame_mask=(bool, VIDEOS, 5),
  )
  batch = 16
  program, _ = compile_encoding(Passing(), mesh, resident=True)
  found = collectives(
    program.lower(
      {},
      task.resident,
      jax.ShapeDtypeStruct((VIDEOS // batch, batch), np.int32),
      VideoEncoding(**stored),
      jax.ShapeDtypeStruct((), np.int32),
    ).compile()
  )
  # Devices with the same share of the corpus each encode a part of it.
  assert bool(found) == (mesh.shape['data'] > 1)
  for one in found:
    assert one.kind == 'all-gather'
    assert one.shapes[0][0] == batch // mesh.shape['corpus']


# One device's share of the clip tokens is larger than anything that may be
# sent.
TRAIN_VIDEOS, CAPTIONS, CLIPS, FRAMES, TRAIN_WIDTH = 16, 32, 40, 56, 8


def training_parts(num_registers):
  model = models.make(
    'dreamprvr',
    width=TRAIN_WIDTH,
    num_heads=2,
    num_clips=CLIPS,
    max_frames=FRAMES,
    max_words=4,
    block_widths=(0.0,),
    num_registers=num_registers,
    diffusion_steps=2,
    diffusion_layers=1,
    dropout=0.1,
  )
  optimizer = bert_adam(lambda step: 1e-3)
  blank = blank_batch(10, 10, num_clips=CLIPS, max_frames=FRAMES, max_words=4)
  state = jax.eval_shape(
    lambda variables: create_state(variables, optimizer),
    variable_shapes(model, blank),
  )
  return state, {
    'model': model,
    'objective': models.objective(
      clip_nce=0.02,
      frame_nce=0.04,
      diversity=0.003,
      structure=0.01,
      variational=1e-4,
      diffusion=1e-3,
    ),
    'optimizer': optimizer,
    'seed': 0,
    'hard_from_step': 0,
  }


def check_training(compiled, state):
  parameter = max(leaf.size for leaf in jax.tree.leaves(state.params))
  queries, scores = CAPTIONS * TRAIN_WIDTH, CAPTIONS * TRAIN_VIDEOS
  tokens = TRAIN_VIDEOS * CLIPS * TRAIN_WIDTH
  assert parameter < tokens
  assert max(queries, scores) < TRAIN_VIDEOS * 5 * TRAIN_WIDTH
  assert max(queries, scores) < tokens // 8
  found = collectives(compiled)
  assert found
  for one in found:
    # Gradients are summed. Other collectives are no larger than the queries,
    # which all devices need, or the scores.
    if one.kind == 'all-reduce':
      assert one.size <= parameter
    else:
      assert one.size <= max(queries, scores)


# Registers take most of the compilation and do not change the scores, so this
# test has none. The slow test below has them.
@pytest.mark.long
def test_training_step_gathers_queries_not_tokens():
  state, parts = training_parts(num_registers=0)
  batch = Batch(
    **shapes(
      clip_features=(np.float32, TRAIN_VIDEOS, CLIPS, 10),
      frame_features=(np.float32, TRAIN_VIDEOS, FRAMES, 10),
      frame_mask=(bool, TRAIN_VIDEOS, FRAMES),
      video_mask=(bool, TRAIN_VIDEOS),
      word_features=(np.float32, CAPTIONS, 4, 10),
      word_mask=(bool, CAPTIONS, 4),
      caption_mask=(bool, CAPTIONS),
      caption_video=(np.int32, CAPTIONS),
    )
  )
  update = compile_update(meshes.make_mesh(8), **parts)
  check_training(update.lower(state, batch).compile(), state)


def test_noise_of_all_steps_is_predicted_where_the_videos_are():
  estimator = RegisterEstimator(4, 2, 8, 'released', jnp.float32)
  mesh = meshes.make_mesh(8)
  by_video = NamedSharding(mesh, PartitionSpec(None, ('data', 'corpus')))
  x = np.zeros((4, 16, 3, 8), np.float32)
  steps = np.zeros((4, 2, 8), np.float32)
  terms = np.zeros((2, 16, 3, 8), np.float32)
  variables = estimator.init(
    {'params': jax.random.key(0)},
    np.zeros((16, 3, 8)),
    method=lambda m, c: m(c, m.step_terms()[0], m.condition_terms(c)),
  )
  predict = jax.jit(
    lambda x, terms: estimator.apply(variables, x, steps, terms),
    in_shardings=(by_video, by_video),
    out_shardings=by_video,
  )
  assert not collectives(predict.lower(x, terms).compile())


@pytest.mark.slow
def test_steps_on_resident_features_gather_queries_not_tokens():
  # The features are larger than the queries.
  state, parts = training_parts(num_registers=3)
  mesh = meshes.make_mesh(8)
  data = features(50, 90, width=10, clips=CLIPS, frames=FRAMES)
  steps = compile_steps(
    mesh, batch_size=TRAIN_VIDEOS, steps_per_epoch=4, most=4, **parts
  )
  split = task_of(data, mesh=mesh).resident
  lowered = steps.lower(
    state, split, jax.ShapeDtypeStruct((), np.int32), CAPTIONS
  )
  check_training(lowered.compile(), state)
