"""tutor: lessons listed, woven, checked, graded. Arrows go down; read in this order:

    lessons.py    what a lesson is made of, and which there are
    markdown.py   a lesson's text: its fences
    source.py     a piece of source by its symbol: Python by ast, C by tree-sitter
    exercise.py   the blank that a learner begins with, made of the real source
    organs.py     the learner's functions in the place of the real ones, in a real minirt or minivm
    world.py      what a lesson's check.py observes with: containers and machines, run with the learner's functions
    host.py       what is looked at there: the host, which must stay as it was; box.py a container, from outside
    observe.py    one observation, in namespaces of its own: facts, a JSON object a line
    counts.py     what KVM counts of a machine, read by a descriptor of the observer's own
    story.py      the calls of two runs, and where they part; recorded traces
    check.py      an answer's facts beside the reference's: passed, or the first that differs
    mutate.py     mechanical mistakes, to try the checks with; mutate_c.py those in C
    hints.py      four rungs for the failure that happened
    state.py      what a learner has done, between commands
    weave.py      lessons with their source in them; what does not resolve is an error
    diagrams.py   the steps of a birth, and what imports what, as pictures
    timeline.py   a recorded trace as a picture
    cited.py      manual pages and specifications that are named, and links to them
    site.py       the annotated source, as pages to read offline
    sandbox.py    the container that a submission runs in
    place.py      what a lesson needs of the machine: checked here, or in the lab
    lab.py        the lab from outside: answers go in, verdicts come out
    inside.py     the lab from inside
    grade.py      a folder of submissions, each in a sandbox made with minirt
    reader.py     a lesson gone through, its questions asked
    measure.py    formulas beside measurements, drawn
    screen.py     the live screen, and the same as plain lines
    scaffold.py   a new lesson
    examples.py   what stands below the help of each command
    cli.py        the words on the command line

May import minirt and minivm; rich, tree-sitter and zensical where they are used.
"""
