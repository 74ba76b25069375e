"""What learning from labels needs beside the method."""
