"""The words of the simulated corpus: data, apart from the code."""


def _words(text: str) -> tuple[str, ...]:
  return tuple(text.split())


PLACES = _words(
  'kitchen garden garage office library harbour market stadium classroom '
  'workshop bakery hospital forest station theatre barn'
)

ACTIONS = _words(
  'lifts opens cleans paints breaks carries throws hides repairs washes '
  'measures folds cuts pushes drops wraps weighs polishes empties inspects '
  'shakes burns stacks sells'
)

OBJECTS = _words(
  'ladder bucket mirror guitar suitcase bicycle lamp carpet basket kettle '
  'hammer window blanket barrel clock chair camera bottle helmet drawer '
  'pumpkin rope trumpet envelope'
)

PEOPLE = _words('someone somebody he she everyone anybody')

ADVERBS = _words('slowly quickly again carefully twice outside')

# Words that no frame can show.
FILLERS = (*PEOPLE, *ADVERBS, 'does', 'something', 'with', 'the', 'in')
