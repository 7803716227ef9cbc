//! What must hold of the records of containers/storage.
