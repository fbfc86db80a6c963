"""Invoke's edge: the task tree, a task, a run, several environments at once. Knows no feature.

tree          the task tree of a project's tasks.py
context       which project the tree belongs to
task          the decorator that declares a task
edge          what a library raises becomes one line and an exit code
early         Ctrl-C before a task begins, and between two
executor      Invoke's executor, with our errors
run           one run of one task: environment, target, guard, journal
group         what --env means: one environment, or several
parallel      a task for several environments at once
group_result  how each of them went
mistyped      a word that is no task and a flag that is none
topic         `inv help TASK`
overview      what `inv` alone prints
init/         a new project
"""
