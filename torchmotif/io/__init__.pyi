from ._contents import contents as contents
from ._contents import reading as reading
from ._dataset import Dataset as Dataset
from ._dataset import StoredArray as StoredArray
from ._read import chosen as chosen
from ._read import frames_of as frames_of
from ._read import read as read
from ._read import read_mask as read_mask
