from .digits import NOISE as NOISE, write_images as write_images
from .images import ImageSet as ImageSet, open_chosen as open_chosen, open_dataset as open_dataset
from .loading import Batch as Batch, batches as batches, load_images as load_images
from .names import class_names as class_names, find_label as find_label
from .preprocessing import preprocessing as preprocessing
