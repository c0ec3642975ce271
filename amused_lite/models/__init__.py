"""The networks in torch. They know shapes and mathematics; they know no files but those `checkpoint` reads."""
