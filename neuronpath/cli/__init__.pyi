from .exits import Report as Report
from .exits import command as command
from .parsing import Parser as Parser
from .processes import Share as Share
from .processes import share as share
