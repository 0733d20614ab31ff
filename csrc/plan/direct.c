/* spawn.c and the constants once more, as a plain extension module: what each start of the OCI runtime needs of C.
 *
 * cffi binds all of it in bindings.py, with no line of C, and that is what everything else uses. But its door costs a start
 * 0.3 ms of 9: two shared libraries more to load and to relocate (cffi's own, and libffi), and a parser of C types. So this
 * page stands beside it in the same library, with another name for the interpreter to begin at (minirt/linux/direct.py).
 *
 * Nothing here owns anything. An int is itself, None is 0, bytes and bytearray are the address of their first byte.
 */

/* Put an argument into a word. Returns 0, or -1 with an exception set. */
static int direct_word(PyObject *item, int64_t *word)
{
    if (item == Py_None)
        *word = 0;
    else if (PyBytes_Check(item))
        *word = (int64_t)PyBytes_AsString(item);
    else if (PyByteArray_Check(item))
        *word = (int64_t)PyByteArray_AsString(item);
    else
        *word = (int64_t)PyLong_AsUnsignedLongLongMask(item);
    return PyErr_Occurred() ? -1 : 0;
}

/* syscall(number, *arguments): the result, or -errno. Other threads go on meanwhile. */
static PyObject *direct_syscall(PyObject *self, PyObject *args)
{
    int64_t w[7] = {0};
    Py_ssize_t n = PyTuple_Size(args);
    long result;

    if (n < 1 || n > 7) {
        PyErr_SetString(PyExc_TypeError, "a system call has a number and at most six arguments");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (direct_word(PyTuple_GetItem(args, i), &w[i]))
            return NULL;
    Py_BEGIN_ALLOW_THREADS
    result = plan_syscall((long)w[0], w[1], w[2], w[3], w[4], w[5], w[6]);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(result);
}

/* address(buffer): where the bytes of bytes or of a bytearray lie, as long as it lives: for a pointer in a structure. */
static PyObject *direct_address(PyObject *self, PyObject *buffer)
{
    int64_t word;

    return direct_word(buffer, &word) ? NULL : PyLong_FromLongLong(word);
}

/* Copy a list of descriptors. Returns how many, or -1 with an exception set. */
static int direct_fds(PyObject *list, int *fds, int most)
{
    Py_ssize_t n = PyList_Size(list);

    if (n > most)
        PyErr_SetString(PyExc_ValueError, "more descriptors than there is room for");
    for (Py_ssize_t i = 0; i < n && !PyErr_Occurred(); i++)
        fds[i] = (int)PyLong_AsLong(PyList_GetItem(list, i));
    return PyErr_Occurred() ? -1 : (int)n;
}

/* spawn(exe, fds, plan): plan_spawn's pid, or -errno. */
static PyObject *direct_spawn(PyObject *self, PyObject *args)
{
    int fds[ROOM_FDS], exe, plan, n;
    PyObject *list;

    if (!PyArg_ParseTuple(args, "iOi", &exe, &list, &plan) || (n = direct_fds(list, fds, ROOM_FDS)) < 0)
        return NULL;
    return PyLong_FromLong(plan_spawn(exe, fds, n, plan));
}

/* send(socket, fds): 0, or -errno. */
static PyObject *direct_send(PyObject *self, PyObject *args)
{
    int fds[FDS_MAX], socket, n, result;
    PyObject *list;

    if (!PyArg_ParseTuple(args, "iO", &socket, &list) || (n = direct_fds(list, fds, FDS_MAX)) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    result = plan_send_fds(socket, fds, n);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(result);
}

/* receive(socket): the message, or -errno; and the descriptor that came with it, the caller's, or -1. */
static PyObject *direct_receive(PyObject *self, PyObject *args)
{
    char message[16];
    int socket, size, fd;

    if (!PyArg_ParseTuple(args, "i", &socket))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    size = plan_receive(socket, message, sizeof message, &fd);
    Py_END_ALLOW_THREADS
    return size < 0 ? Py_BuildValue("ii", size, fd) : Py_BuildValue("Ni", PyBytes_FromStringAndSize(message, size), fd);
}

static int direct_order(const void *name, const void *entry)
{
    return strcmp(name, ((const struct direct_constant *)entry)->name);
}

/* constant(name): the value of one of constants.txt. Raises KeyError. */
static PyObject *direct_constant(PyObject *self, PyObject *args)
{
    const char *name;

    if (!PyArg_ParseTuple(args, "s", &name))
        return NULL;
    const struct direct_constant *found = bsearch(name, direct_constants, sizeof direct_constants / sizeof *direct_constants,
                                                  sizeof *direct_constants, direct_order);
    if (!found) {
        PyErr_SetString(PyExc_KeyError, name);
        return NULL;
    }
    return PyLong_FromLongLong(found->value);
}

static PyMethodDef direct_methods[] = {
    {"syscall", direct_syscall, METH_VARARGS, NULL},
    {"address", direct_address, METH_O, NULL},
    {"spawn", direct_spawn, METH_VARARGS, NULL},
    {"send", direct_send, METH_VARARGS, NULL},
    {"receive", direct_receive, METH_VARARGS, NULL},
    {"constant", direct_constant, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef direct_module = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "minirt.linux._direct", .m_size = -1, .m_methods = direct_methods,
};

PyMODINIT_FUNC PyInit__direct(void)
{
    return PyModule_Create(&direct_module);
}
