"""The interface to Invoke: the task tree, a task, a run, several environments. It knows no feature.

tree          assemble the task tree of a project's tasks.py
context       the project that the tree belongs to
task          the decorator that declares a task
call          one task calls another one
edge          turn errors into one line and an exit code
early         Ctrl-C before a task begins, or between two
executor      Invoke's executor, with our error messages
opening       open the run of a task: environment, target, journal
run           what the body of a task works with: target, guard, lock
source        the environment that a task reads besides its target
permit        the question that the guard leaves, and the permit to replace a database
group         --env with one environment or several
parallel      run a task for several environments at once
group_result  the results of these runs
mistyped      errors for unknown tasks and flags
completion    complete the values of flags on TAB
parsing       let Invoke parse without copies of every task's arguments
topic         `inv help TASK`
overview      the output of `inv` without a task
init/         set up a project
"""
