"""Functions that several tests use; fixtures are in the ``conftest.py`` files."""

from tests.helpers.commands import *
from tests.helpers.damage import *
from tests.helpers.images import *
from tests.helpers.published import *
from tests.helpers.runs import *
from tests.helpers.views import *
