from .exits import Report as Report, command as command
from .parsing import Parser as Parser
from .processes import Share as Share, share as share
