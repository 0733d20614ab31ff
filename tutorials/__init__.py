"""The course: lessons made of the product's own source, and `tutor`, which walks through them.

    containers/NN_name/, machines/NN_name/     a lesson each: lesson.md, lesson.toml, check.py, hints.toml, wrong/*.py
    teaching.md                                for teachers: a class on a server, on laptops, in CI
    glossary.md                                the words, each explained once
    hints.toml                                 hints for what goes wrong in every lesson
    tutor/                                     the command; read its __init__.py first

A lesson is only writing: it names source by symbol, and the tool pulls it in, blanks it, puts the learner's in its place.
"""
