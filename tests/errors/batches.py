"""Programs that put a batch together, or read it, the wrong way."""

from tests.errors.base import Case

DICTS = """
class Rows(Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        return {"image": torch.randn(10), "label": index %% 3}

class Net(Base):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(10, 3)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(%s), batch["label"])

fit(Net(), DataLoader(Rows(), batch_size=8))
"""

TUPLES = """
class Net(Base):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(10, 3)

    def training_step(self, batch, batch_idx):
        %s
        return F.cross_entropy(self.net(x), y)

fit(Net(), loader(torch.randn(16, 10), torch.randint(3, (16,))))
"""

RAGGED = """
class Texts(Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        return %s

class Net(Base):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.head(self.embedding(x).mean(1)), y)

def pad(samples):
    texts, labels = zip(*samples)
    return nn.utils.rnn.pad_sequence(texts, batch_first=True), torch.tensor(labels)

fit(Net(), DataLoader(Texts(), batch_size=8%s))
"""

CASES = (
    Case("missing_key", "LD111", "missing-key", "", DICTS % 'batch["images"]', '"images"', '"image"', r"batch\['image'\]"),
    Case("missing_key_far", "LD111", "missing-key", "", DICTS % 'batch["x"]', 'batch["x"]', 'batch["image"]', r"'image'"),
    Case("whole_dict", "LD111", "container-for-tensor", "net", DICTS % "batch", "self.net(batch)", 'self.net(batch["image"])', r"batch\['image'\]"),
    Case("dict_attribute", "LD111", "container-for-tensor", "", DICTS % "batch.image", "batch.image", 'batch["image"]', r"batch\['image'\]"),
    Case("three_of_two", "LD111", "wrong-number-of-items", "", TUPLES % "x, y, z = batch", "x, y, z = batch", "x, y = batch", r"x, y = batch"),
    Case("unpack_dict", "LD111", "wrong-number-of-items", "",
         (DICTS % 'x').replace("        return F.cross", "        x, y, z = batch\n        return F.cross"),
         "x, y, z = batch", 'x = batch["image"]', r"batch\['image'\]"),
    Case("dict_as_pair", "LD111", "key-for-value", "net",
         (DICTS % 'x').replace("        return F.cross", "        x, y = batch\n        return F.cross"),
         "x, y = batch", 'x = batch["image"]', r"batch\['image'\], batch\['label'\]"),
    Case("third_item", "LD111", "missing-item", "", TUPLES % "x, y = batch[0], batch[2]", "batch[2]", "batch[1]", r"item that batch has"),
    Case("list_by_key", "LD111", "not-a-dict", "", TUPLES % "x, y = batch['x'], batch['y']", "batch['x'], batch['y']", "batch", r"x, y = batch"),
    Case("batch_not_unpacked", "LD111", "container-for-tensor", "net", TUPLES % "x, y = batch, batch[1]", "batch, batch[1]", "batch", r"x, y = batch"),
    Case("list_method", "LD111", "container-for-tensor", "", TUPLES % "x, y = batch.float(), batch[1]", "batch.float(), batch[1]", "batch", r"x, y = batch"),
    Case("ragged_texts", "LD114", "unequal-sizes", "", RAGGED % ("torch.randint(20, (3 + index % 4,)), index % 3", ""),
         "batch_size=8)", "batch_size=8, collate_fn=pad)", r"collate_fn"),
    Case("ragged_texts_in_worker", "LD114", "unequal-sizes", "",
         RAGGED % ("torch.randint(20, (3 + index % 4,)), index % 3", ", num_workers=1"), "", "", r"collate_fn"),
    Case("sample_is_none", "LD114", "not-collatable", "", RAGGED % ("None if index == 3 else (torch.randint(20, (4,)), index % 3)", ""),
         "None if index == 3 else (torch.randint(20, (4,)), index % 3)", "(torch.randint(20, (4,)), index % 3)", r"__getitem__"),
    Case("no_parameters", "LD115", "no-parameters", "", TUPLES.replace("nn.Linear(10, 3)", "nn.Identity()") % "x, y = batch",
         "nn.Identity()", "nn.Linear(10, 3)", r"__init__"),
    Case("layers_made_in_the_step", "LD115", "layers-made-late", "",
         (TUPLES % "x, y = batch").replace("self.net = nn.Linear(10, 3)", "self.width = 10").replace("self.net(x)", "nn.Linear(self.width, 3)(x)"),
         "", "", r"self\.net = nn\.Linear\(\.\.\.\)"),
    Case("parameters_in_a_list", "LD115", "unregistered-modules", "",
         (TUPLES % "x, y = batch").replace("self.net = nn.Linear(10, 3)", "self.nets = [nn.Linear(10, 3)]").replace("self.net(x)", "self.nets[0](x)"),
         "[nn.Linear(10, 3)]", "nn.ModuleList([nn.Linear(10, 3)])", r"nn\.ModuleList"),
    Case("groups_added", "LD118", "groups-added", "",
         (TUPLES % "x, y = batch").replace("    def training_step", """    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)]

    def on_train_start(self):
        self.optimizers().add_param_group({"params": [nn.Parameter(torch.zeros(1))]})

    def training_step"""), "LambdaLR(optimizer, lambda epoch: 1.0)", "StepLR(optimizer, 1)", r"StepLR"),
    Case("out_of_memory", "LD108", "batch-too-large", "",
         (TUPLES % "x, y = batch").replace("return F", "if len(x) > 4:\n            raise RuntimeError('[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can\\'t allocate memory: you tried to allocate 137438953472 bytes. Error code 12')\n        return F"),
         "torch.randint(3, (16,))", "torch.randint(3, (16,)), batch_size=4", r"batch_size=4"),
    Case("out_of_memory_on_device", "LD108", "batch-too-large", "",
         (TUPLES % "x, y = batch").replace("return F", "if len(x) > 4:\n            raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB')\n        return F"),
         "torch.randint(3, (16,))", "torch.randint(3, (16,)), batch_size=4", r"batch_size=4"),
)  # fmt: skip
