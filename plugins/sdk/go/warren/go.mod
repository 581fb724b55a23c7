module warren

go 1.24
