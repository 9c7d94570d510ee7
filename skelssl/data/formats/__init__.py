"""The field's file formats: readers into a store and writers out of one."""
