from .build import Built as Built, Sources as Sources, build_atlas as build_atlas
from .sources import open_sources as open_sources
