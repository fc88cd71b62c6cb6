"""Who sees what of a text: classes of privacy, what each protects, and how much of a prompt was read back."""
