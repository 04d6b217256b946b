"""Lesions of multiple sclerosis in made-up FLAIR: what the bundled model ``ms-lesions`` sees."""
