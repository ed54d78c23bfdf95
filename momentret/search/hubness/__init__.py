"""The hubness laboratory: some gallery items are everybody's neighbours; measure that, and correct for it.

methods      what the papers define, on matrices in memory
arrays       NumPy and torch as one, exact top-k
rows         matrices in blocks of rows: arrays, files, products of embeddings
validity     entries that are no numbers
streaming    the sums that methods need, in one pass over a bank
normaliser   HubnessNormaliser: fit once, store one number per item, apply anywhere
guard        how much of a bank's correction to believe: split halves, live queries
corpus       biases per video of a corpus index, kept beside it, applied to its hits
index        one FAISS index that serves every bank method
diagnosis    k-occurrence and what follows from it
retrieval    R@k, MdR, MnR with a tie rule, paired comparison
tuning       temperature and shrinkage on held-out queries
reading, opening, preparing, truth   files in: matrices, embeddings, banks, ground truth
counting, report, results            one pass over the queries; JSON, tables, pictures and TREC runs out
simulation   a two-modality world with hubs in it
"""
